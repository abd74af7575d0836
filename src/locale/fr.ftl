# Les phrases de Longhaul en français. Chaque nom est celui que la phrase porte dans le code ; les variables sont les siennes.

## Champs d'une requête

and-more = et { $more } { $more ->
    [one] autre
   *[other] autres
}
at-most = doit être au plus { $most }
at-most-allowed = { $most } au plus sont admis
at-most-bytes = doit compter au plus { $most } octets
a-uuid = doit être un UUID
bad-duration = ne doit pas être négative, et ses nanosecondes doivent tenir dans une seconde
bad-fields = { $count } champs de la requête sont incorrects
bytes = doit compter de 1 à { $most } octets
control-character = contient le caractère de contrôle { $control } à l'octet { $at } ; aucun n'est admis
cycle = un cycle : { $path }
days-ahead = doit être à { $days } jours d'ici au plus
driver-name = doit compter de 1 à { $most } caractères de [A-Za-z0-9_.-]
entries = doit avoir de 1 à { $most } entrées
first-message = est requis dans le premier message
first-message-only = n'est admis que dans le premier message
from-to = doit être compris entre { $least } et { $most }
hello-late = n'est pas arrivé à temps
job-too-large = les données et les textes du job comptent ensemble { $bytes } octets ; { $most } au plus sont admis
label-key = une clé compte de 1 à { $most } caractères de [a-z0-9_.-]
malformed = le message ne peut pas être décodé : { $detail }
name-taken = « { $name } » est déjà le nom de tasks[{ $first }]
no-such-task = aucune tâche de ce job ne s'appelle « { $name } »
not-a = n'est pas une valeur de { $kind }
not-a-time = n'est pas une date
not-negative = ne doit pas être négatif
one-required = l'un d'eux est requis
path-backslash = contient une barre oblique inversée devant autre chose qu'un point, une étoile, un crochet ou une barre oblique inversée
path-bracket = contient un crochet ; désignez les éléments d'une liste comme dans hosts.*.key ou hosts.0.key
path-empty-name = contient un nom vide ; écrivez par exemple spec.db.password
path-star = contient une étoile dans un nom ; une étoile est seule, pour tout nom, ou précédée d'une barre oblique inversée
path-too-long = compte plus de 1024 octets ou de 30 noms
printable-ascii = doit compter au plus { $most } octets d'ASCII imprimable
required = est requis
secret-name = le nom d'un secret compte de 1 à { $most } caractères de [A-Za-z0-9_.-]
secrets-too-large = comptent ensemble { $bytes } octets ; { $most } au plus sont admis
tasks-needed = en a { $tasks } ; il en faut de 1 à { $most }
timeout-range = doit être compris entre { $least } ms et 365 jours
too-long = compte { $bytes } octets ; { $most } au plus sont admis
too-many-names = compte { $count } noms ; { $most } au plus sont admis
too-many-to-sort = plus de { $most } jobs correspondent, trop pour être triés ainsi ; précisez le filtre, ou triez par date de soumission
up-to-a-day = doit être compris entre 0 et 1 jour
uuid = doit être un UUID, par exemple { $example }

## Routes asynchrones

an-object = doit être un objet
at-least = doit être au moins { $least }
at-least-characters = doit compter au moins { $limit } caractères
at-least-items = doit compter au moins { $limit } éléments
at-most-characters = doit compter au plus { $limit } caractères
at-most-items = doit compter au plus { $limit } éléments
bad-escape = contient un « % » que ne suivent pas deux chiffres hexadécimaux
bad-format = doit avoir le format { $format }
dots = ne doit être ni « . » ni « .. »
expression-failed = « { $expression } » : { $what }
expression-misses = « { $expression } » désigne un champ que la requête n'a pas
fits-no-form = n'a aucune des formes permises
holds-missing = contient un champ que la requête n'a pas
key-not-text = a une clé qui n'est pas un texte
list-not-text = est une liste ; il faut un texte
nests-deeper = est imbriqué sur plus de { $most } niveaux
no-json = n'a pas de forme en JSON
no-match = doit correspondre à { $pattern }
not-a-field = n'est pas un champ de cette requête
not-allowed = n'est pas admis ici
not-exact = est un entier au-delà de 2^53, que les données ne peuvent pas contenir exactement ; envoyez-le comme texte
not-finite = n'est pas un nombre fini
not-of-type = doit être de type { $kind }
not-one-of = doit être l'une de ces valeurs : { $options }
not-utf = n'est pas de l'UTF-8 une fois décodé
null-not-text = est nul ; il faut un texte
object-not-text = est un objet ; il faut un texte
rendered-too-large = le job dépasse { $most } octets
request-misses = a besoin de { $fields }, que la requête n'a pas
too-many-values = compte plus de { $most } valeurs

## Filtres et listes

compared-with-nothing = { $member } n'est comparé à rien ; écrivez CHAMP = VALEUR, avec un CHAMP parmi { $fields }
filter-number = { $path } : { $value } n'est pas un nombre entier
filter-time = { $path } : { $value } n'est pas une date, par exemple { $example }
filter-uuid = { $path } : { $value } n'est pas un UUID
foreign-cursor = ne vient pas d'un suivi de ce stockage avec le même filtre, comme après une restauration ou une copie ; recommencez sans lui
list-order = doit être { $orders }
no-field = il n'y a pas de champ « { $other } » ; les champs sont { $fields }
no-functions = les fonctions ne sont pas admises
no-order = { $path } se compare avec =, != et :, pas avec { $comparator }
none-of = { $path } : { $value } n'est aucun de { $names }
plain-value = { $path } doit être comparé à une simple valeur
too-many-comparisons = a plus de { $most } comparaisons

## Refus

job-not-ended = le job { $job } n'est pas terminé ; annulez-le d'abord, ou attendez
job-not-found = aucun job { $job }
job-succeeded = le job { $job } a réussi ; soumettez-en un nouveau pour l'exécuter encore
key-exists = il y a déjà une clé { $key }
key-not-found = aucune clé { $key }
lease-lost = le bail a pris fin ou a été donné à un autre exécutant ; cessez de travailler à cette tâche
nested-too-deep = le job { $job } est imbriqué trop profondément pour avoir des enfants : { $most } niveaux au plus
parent-ended = le job { $job } est terminé ou en cours d'annulation et n'accepte plus d'enfants
parent-not-found = aucun job { $job } qui puisse être le parent
request-id-reused = request_id « { $request_id } » a servi à une autre requête, dont est issu le job { $job }
master-key-required = le serveur n'a pas de clé maîtresse, et n'accepte donc ni secrets ni champs sensibles, par sensitive_fields ou par leur nom ; lancez-le avec --master-key-file
result-too-large = les résultats des tâches d'un job peuvent compter ensemble { $most } octets ; gardez les grands ailleurs et renvoyez leur adresse
secrets-erased = les secrets du job { $job } ont été effacés à la fin de ses tâches ; soumettez-le de nouveau avec ses secrets
tenant-exists = il y a déjà un tenant { $tenant }
tenant-not-found = aucun tenant { $tenant } ; créez-le avec `longhaul tenant create { $tenant }`

## Le serveur

body-not-waited-for = le serveur s'arrête et la requête n'était pas complète ; envoyez-la de nouveau
body-too-slow = le corps n'est pas arrivé à temps
failed-over = la base de données a basculé ; appelez de nouveau avec la révision ou le curseur le plus récent que vous avez vu
draining = le serveur s'arrête ; appelez de nouveau
no-room = trop de grandes requêtes sont en cours ; envoyez-la de nouveau dans un instant
outcome-unknown = issue inconnue ; réessayez avec le même request_id
stopped = le serveur a cessé de travailler ; appelez-en un autre, ou celui-ci quand il sera de retour
store-busy = il est lu plus que les connexions de ce serveur à la base de données ne peuvent porter ; rien n'a été enregistré ; rappelez, ou appelez un autre serveur
store-corrupt = ce qui est enregistré ne peut pas être lu ; le journal du serveur en dit plus
store-unavailable = la base de données est injoignable pour l'instant ; rien n'a été enregistré ; réessayez avec le même request_id
store-failed = le stockage a échoué ; réessayez avec le même request_id
store-full = le disque du stockage est plein ; rien n'a été enregistré ; faites de la place et soumettez de nouveau
worker-silent = l'exécutant n'a pas donné signe de vie pendant trois intervalles ; reconnectez-vous

## REST

no-condition = ne sert qu'à la lecture : ce qui change quelque chose est fait quelle que soit l'étiquette ; ne l'envoyez pas
key-not-honoured = ne peut pas être respecté ici, car chacune de ces requêtes compte ; ne l'envoyez pas
key-of-batch = ne peut pas valoir pour plusieurs jobs ; donnez plutôt un requestId dans chacune des requêtes
one-key = doit être une seule clé en ASCII imprimable, nue ou entre guillemets
other-key = n'est pas l'Idempotency-Key ; envoyez l'un des deux, ou deux fois le même
body-too-large = le corps peut compter { $most } octets au plus
cross-site = une page d'un autre site ne peut pas faire envoyer ceci par un navigateur ; si c'est une page de ce serveur derrière un mandataire, nommez-le dans allowed_hosts
unknown-host = ce serveur n'est pas connu comme { $host } ; appelez-le localhost ou 127.0.0.1, ou faites-le démarrer avec ce nom dans allowed_hosts
given-twice = est donné deux fois
grpc-path = { $path } est une méthode gRPC : appelez-la avec un client gRPC, par exemple grpcurl, ou voyez /openapi.json pour l'API REST
last-event-id = doit être l'identifiant d'un événement de ce flux
method-not-allowed = { $method } n'est pas possible ici ; sont possibles { $allowed }
no-method = il n'y a pas de méthode { $name }
no-parameter = il n'y a pas de tel paramètre ici
no-parameters = il n'y a pas de paramètres ici
no-page = il n'y a pas de page { $name }
no-path = il n'y a rien à { $path } ; /openapi.json dit ce qu'il y a
body-compressed = les corps des requêtes ne sont pas décompressés ici ; envoyez-le tel quel, sans content-encoding
not-json = le corps doit être du JSON et le dire : content-type: application/json
not-text = doit être de l'UTF-8 sans caractères de contrôle, encodé avec des %
parameters-are = il n'y a pas de tel paramètre ici ; il y a { $names }
query-too-long = la requête d'URL compte { $bytes } octets ; { $most } au plus sont admis
true-or-false = doit être true ou false
whole-number = doit être un nombre entier de { $least } à { $most }
foreign-token = ne vient pas d'une réponse à la même requête ; recommencez sans lui
sort-direction = doit être des champs séparés par des virgules, chacun suivi de asc, de desc ou de rien
negation-inside = doit avoir un ! devant la première alternative, où il les nie toutes, ou n'en avoir aucun
too-many-alternatives = a plus de { $most } alternatives ; demandez-en quelques-unes à la fois
filter-moment = doit être une date, par exemple 2026-01-31T12:00:00Z, précédée de <, <=, >, >= ou de rien
too-many-sort-fields = compte { $fields } champs ; { $most } au plus sont admis
nse-accepted = D'accord. Demande acceptée, en cours de traitement.
nse-returned = D'accord. { $records } { $records ->
    [one] enregistrement renvoyé
   *[other] enregistrements renvoyés
}.
nse-returned-one = D'accord. 1 enregistrement renvoyé.

## L'état d'un job

job-children-ended = { $ended } sur { $total } { $total ->
    [one] job enfant fini
   *[other] jobs enfants finis
}, { $failed } en échec
job-tasks-done = { $done } sur { $total } { $total ->
    [one] tâche finie
   *[other] tâches finies
}
job-tasks-ended = { $succeeded } sur { $total } { $total ->
    [one] tâche réussie
   *[other] tâches réussies
}, { $failed } en échec, { $cancelled } { $cancelled ->
    [one] annulée
   *[other] annulées
}, { $skipped } { $skipped ->
    [one] omise
   *[other] omises
}
job-tasks-succeeded = { $total } sur { $total } { $total ->
    [one] tâche réussie
   *[other] tâches réussies
}
job-waits-for-time = attend son heure ou un exécutant
job-waits-for-worker = attend un exécutant
job-waits-to-stop = attend que { $tasks } { $tasks ->
    [one] tâche s'arrête
   *[other] tâches s'arrêtent
}

## REST : Active IQ Unified Manager

aiqum-no-order = ne se compare pas avec <, <=, > ou >= ; seules les dates le peuvent
aiqum-wait-twice = a le même sens que wait ; donnez l'un ou l'autre

## REST : ONTAP Select Deploy

deploy-cancelled = le job a été annulé
deploy-cancelled-because = le job a été annulé : { $reason }
deploy-cancelling = le job est en cours d'annulation
deploy-cancelling-because = le job est en cours d'annulation : { $reason }
deploy-child-failed = réussi, mais pas tous ses jobs enfants
deploy-one-warning = réussi avec un avertissement : { $warning }
deploy-partly-failed = { $succeeded } des { $total } tâches ont réussi ; la tâche « { $name } » a échoué : { $error }
deploy-succeeded = réussi
deploy-task-failed = la tâche « { $name } » a échoué : { $error }
deploy-tasks-not-run = toutes les tâches n'ont pas été exécutées
deploy-some-warnings = réussi avec des avertissements, dont : { $warning }
deploy-tries-again = une tentative a échoué, une autre suivra : { $error }

# Qui appelle, et combien il peut prendre
credential-required = une identification est requise : envoyez « Authorization: Bearer lh_… »
credential-malformed = ceci n'est pas une clé : une clé commence par lh_ et s'envoie en entier
credential-invalid = cette identification n'est pas bonne, ou ne l'est plus
credential-expired = cette identification a expiré
role-required = ceci demande le rôle { $role }, que { $name } n'a pas
operator-required = ceci demande le rôle { $role } pour tous les tenants, que { $name } n'a pas
driver-not-given = ceci demande le rôle work pour le pilote { $driver }, que { $name } n'a pas
quota-submits = le tenant peut soumettre { $most } jobs par seconde ; soumettez plus tard
quota-open-jobs = le tenant peut avoir { $most } jobs en cours ; soumettez quand certains seront terminés
quota-watches = le tenant peut avoir { $most } suivis et attentes à la fois ; revenez plus tard, ou suivez plusieurs jobs en une requête
quota-connections = le tenant peut avoir { $most } connexions à la fois ; utilisez-en une pour plusieurs appels
not-at-first = peut être donné plus tard, par UpdateTenant
tenant-name = doit compter de 1 à 63 caractères de [a-z0-9-], avec une lettre ou un chiffre aux deux bouts
reaches-nothing = est pour les rôles work, admin et audit, dont aucun n'est donné
in-the-future = doit être dans le futur
certificate-name = doit être un URI comme { $example }, ou dns:NOM, de { $most } octets au plus
no-master-key = il n'y a pas de clé maîtresse pour envelopper des clés : lancez le serveur avec --master-key-file
master-key-missing = la clé de données { $number } a été enveloppée par une clé maîtresse que ce serveur n'a pas : donnez-lui celle-là aussi, sur une ligne derrière l'actuelle
a-key-id = doit être l'identifiant d'une clé, qui se trouve entre lh_ et le _ suivant
