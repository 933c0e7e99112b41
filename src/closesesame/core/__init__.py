"""What every room stands on: methods and their registry, named shapes, errors, seeds, progress."""
