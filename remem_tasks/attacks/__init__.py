"""Is it forgotten? What asks a model otherwise than its benchmark does: in other words, with other pictures, behind
demonstrations, with coarser weights, or layer by layer. What trains a model before it is asked is
`unlearning.experiments.attack`, which runs all of it.
"""
