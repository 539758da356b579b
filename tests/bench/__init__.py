"""bench: what privacy costs in CPU and memory, as ratios against the exact query in the same run."""
