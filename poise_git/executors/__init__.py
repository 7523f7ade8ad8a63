"""Where jobs run. An executor takes jobs and yields their outcomes as they end."""
