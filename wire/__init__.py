"""The contract between agent and central: what a reading is and how it travels."""
