"""The paper's comparison: recipes, the methods and their controls, fleets over seeds, attacks, results."""
