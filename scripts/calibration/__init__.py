"""How often the rules and the intervals err that verdicts use."""
