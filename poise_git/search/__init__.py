"""Phase I: from an archive to parents, their context, and proposals worth implementing."""
