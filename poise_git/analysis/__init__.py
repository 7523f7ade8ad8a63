"""Phase III: what the runs say, beyond noise or not."""
