"""OWLv2: finds objects that phrases, or examples in another picture, describe (Minderer et al. 2023, arXiv 2306.09683).

The names of the weights are those of transformers' `Owlv2ForObjectDetection`, whose outputs these modules reproduce.
"""
