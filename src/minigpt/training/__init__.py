"""The Lightning side: the module, the data module, and what watches a run. Nothing below imports lightning."""
