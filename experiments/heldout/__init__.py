"""Networks on artificial pairs of volumes that their training never saw."""
