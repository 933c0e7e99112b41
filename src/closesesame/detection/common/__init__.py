"""What several detections share."""
