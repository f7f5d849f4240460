"""Asks a policy: completions of a batch of queries, with the twins of specialists in them where the policy wants."""
