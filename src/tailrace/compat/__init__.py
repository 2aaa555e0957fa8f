"""Other packages' names and arguments, over Tailrace: to move here by changing one import."""
