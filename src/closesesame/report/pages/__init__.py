"""Pages: what each says, and how it is written."""
