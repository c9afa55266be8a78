"""Train part of a run again and check that it gives the same bits."""
