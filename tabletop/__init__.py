"""The simulated Franka on a table: scenes, expert, training and closed-loop evaluation of our policy. torch and MuJoCo are here."""
