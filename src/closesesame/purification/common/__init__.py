"""What several purifications share."""
