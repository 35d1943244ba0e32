"""The online detector: rows folded into the state, one verdict for each."""
