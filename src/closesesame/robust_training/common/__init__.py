"""What robust trainings share."""
