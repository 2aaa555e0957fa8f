"""Other packages' names and arguments on top of Tailrace, to move here by changing one import."""
