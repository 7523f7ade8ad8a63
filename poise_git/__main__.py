from poise_git.cli.main import main

main()
