"""What a grader looks at: Grad-CAM heat maps, over the photographs that they are of."""
