"""What shows runs: Weights & Biases, TensorBoard, the dashboard, videos."""
