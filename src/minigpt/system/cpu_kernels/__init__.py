"""Operations with gradients of their own, for where torch runs one after another on a CPU."""
