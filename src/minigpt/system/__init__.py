"""The machine and the terminal: files, output, tables, limits of cores and memory, devices, CPU kernels."""
