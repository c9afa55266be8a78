"""Panels: what TensorBoard shows of the inside of a run on the way, one file each. Off, none of it is imported."""
