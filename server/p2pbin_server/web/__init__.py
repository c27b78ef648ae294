"""HTTP: requests and answers, and what each route does with them.  The rules live in the modules above."""
