"""The simulated Franka on a table: scenes, expert, training and closed-loop evaluation of the policy we ship. torch and MuJoCo live here."""
