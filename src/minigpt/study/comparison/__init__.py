"""What runs came to, and what may be claimed of their differences."""
