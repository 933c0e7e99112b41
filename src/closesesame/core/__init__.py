"""What all other packages use: methods and their registry, named shapes, errors, seeds, progress."""
