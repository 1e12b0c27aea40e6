"""Evaluation of networks on artificial pairs that training has not seen."""
