"""Training: a loop that knows batches and a loss, with checkpoints that resume; what is learnt comes from outside."""
