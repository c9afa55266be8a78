"""The machine and the terminal: files, output, cores, memory, devices, CPU kernels."""
