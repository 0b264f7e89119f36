"""What every served model runs on inside Triton server's Python backend: services, scheduling, threads, errors."""
