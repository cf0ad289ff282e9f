/* Stands in for sudo without a password, as the runner image is set up: runs the command as root. */
#include <stdio.h>
#include <unistd.h>

int main(int count, char **words) {
  if (count < 2) {
    fputs("usage: sudo COMMAND [ARGUMENT]...\n", stderr);
    return 2;
  }
  if (setgid(0) != 0 || setuid(0) != 0) {
    perror("sudo");
    return 1;
  }
  execvp(words[1], words + 1);
  perror(words[1]);
  return 127;
}
