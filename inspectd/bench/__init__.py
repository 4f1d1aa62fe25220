"""What `inspectd bench` measures: the engine by itself, and a whole daemon with simulated cameras."""
