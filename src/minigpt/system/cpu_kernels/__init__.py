"""Operations that train and sample faster on a CPU than torch's own; `swap.use_cpu_kernels(model)` puts them in."""
