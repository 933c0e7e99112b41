"""Figures as inline SVG: words stay text, colours come from the style sheet."""
