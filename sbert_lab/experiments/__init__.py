"""What only the notebooks need: profiles, experiments, figures, exercises."""
