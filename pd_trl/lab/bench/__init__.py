"""The paper's table and its ablations in a world whose truth is known: which pairs each method keeps, and what a policy makes of them."""
