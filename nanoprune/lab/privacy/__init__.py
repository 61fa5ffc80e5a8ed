"""Privacy accounting of DP-SGD: from noise and steps to epsilon, and back."""
