"""The paper's comparison: methods and recipes, fleets over seeds trained and attacked, and what was found."""
