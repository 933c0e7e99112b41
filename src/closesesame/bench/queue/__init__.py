"""The queue of jobs: a store on disk, workers, and what they leave behind."""
