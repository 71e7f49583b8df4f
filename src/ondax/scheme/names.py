"""Names of symbols that are given in one place and asked for in another."""

PERTURBED = "born_"  # before the names of perturbed coefficients and of the fields they scatter
GRADIENT = "grad_"  # before the names of gradients

PML_KEEP, PML_TAKE = "pml_keep", "pml_take"
"""Profiles of a perfectly matched layer of derivatives: what a memory keeps of itself in a step,
and takes up of a derivative."""

JOINT_KEEP, JOINT_TAKE = "joint_keep", "joint_take"
"""Profiles of a layer of the flux: what a memory of the flux across it keeps of itself in a step,
and takes up of the flux."""
JOINT_GAIN, JOINT_WITHIN, JOINT_CROSS = "joint_gain", "joint_within", "joint_cross"
JOINT_REST, JOINT_FAR = "joint_rest", "joint_far"
"""Profiles that memories of the flux along a layer need, if eta is not zero: how much of what is
fed to it a memory takes up, in its own layer; 1 in a layer; what a layer feeds to the memories of
other axes; and what these keep and take up where no layer of their own is."""
