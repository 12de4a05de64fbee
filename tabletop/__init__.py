"""The simulated Franka on a table: scenes, expert, training and evaluation of our policy. torch and MuJoCo are here."""
