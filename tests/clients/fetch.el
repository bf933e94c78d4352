;; Fetches mail with Emacs' pop3.el. Its connection is the command $KPOPC, because pop3.el has no GSSAPI.
(require 'pop3)
(require 'network-stream)
(defun kpop-stream (open name buffer host service &rest parameters)
  "Connects pop3.el to kpopc, which shows the ticket."
  (apply open name buffer host service :type 'shell
         :shell-command (concat (getenv "KPOPC") " %s %p") parameters))
(advice-add 'open-network-stream :around #'kpop-stream)
(setq pop3-mailhost "mail.kpopd.test" pop3-port 1109 pop3-maildrop "alice" pop3-password "x"
      pop3-leave-mail-on-server nil pop3-read-timeout 0.1)
(pop3-movemail (concat (getenv "HOME") "/got"))
