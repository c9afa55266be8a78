"""Random configs, files and prompts: whatever comes in, one line or a result comes out, never a traceback."""
