"""What a trained model is worth.

Owns: scores and maps of a test set, metrics, known defects, pictures of results; best_on_test: the paper's choice.
Threads: the caller's.
Never: a threshold, or a change of the model.
"""
