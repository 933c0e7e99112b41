"""What several removals share."""
