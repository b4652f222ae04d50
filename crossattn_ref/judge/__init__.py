"""The judge: grading strangers' code in a sandbox, and handing nbgrader finite scores with reasons."""
