"""Languages with exact recognisers, their negatives, and samplers of both."""
