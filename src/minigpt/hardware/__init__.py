"""How fast a device can multiply matrices: by its data sheet, or measured."""
