"""How good the answers of a run are: its parts are read again, in the order of its input, and told
against labels that were kept beside them, or against what was answered before."""
