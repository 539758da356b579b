"""rewriter: SQL and a policy in, a plan whose effect any one person can bound out. Pure."""
